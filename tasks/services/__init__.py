"""The processes of `riseorfall up`: supervisor, servers, stale runs, events, automations."""
