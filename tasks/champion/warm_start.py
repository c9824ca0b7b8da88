"""Warm starts: weights of a former champion, for a fit whose training windows include the champion's. No Prefect.

A fold may not start from the champion, which was trained on the fold's test bars. It starts from the newest former
champion that was trained before the fold's validation bars, as it would have at that time; without one, from fresh
weights. The final fit follows the same procedure. Caution: a rollback withdraws champions, and makes an old one the
newest in the decision log; champions are therefore taken in the order of their registration.
"""

import logging
from collections.abc import Sequence

import numpy as np

from model.errors import RiseOrFallError, StoreUnavailable, UntrustedModel
from model.folds import Fold
from model.recipe import Recipe
from model.times import to_datetime64
from model.windows import Windows
from tasks.registry.model_registry import ModelRegistry
from tasks.store.decision_log import DecisionLog, standing_champions

log = logging.getLogger(__name__)

Weights = tuple[np.ndarray, ...]


def start_weights(
    registry: ModelRegistry, decisions: DecisionLog, recipe: Recipe, before: np.datetime64
) -> Weights | None:
    """Return the weights of the newest former champion that a fit may start from; None without one.

    Args:
        registry: versions and their files.
        decisions: names the former champions.
        recipe: of the fit; champions of another network, window or ensemble size are left out.
        before: the training of the champion must have ended before this time, datetime64[us], UTC.

    Raises:
        StoreUnavailable: the store of the versions could not be read.
        UntrustedModel: the files of the champion are not those that were decided about.
    """
    if not recipe.training.warm_start:
        return None
    rows = decisions.rows(registry.name)
    for number in sorted(standing_champions(rows), key=int, reverse=True):
        try:
            version = registry.version(number)
            if not to_datetime64(version.trained_until) < before:
                continue
            loaded = registry.read_version(number)
            if not _fits(loaded.recipe(), recipe):
                continue
            content = loaded.keras()
        except StoreUnavailable:  # a start other than that of the folds gives a network that they say nothing about
            raise
        except (RiseOrFallError, OSError) as error:
            if isinstance(error, UntrustedModel) and number == rows[-1].champion_after:
                raise  # the gate, after the training, would refuse it too
            log.warning("%s: version %s is no warm start: %s", registry.name, number, error)
            continue
        from model.network_files import network_from_bytes  # loads TensorFlow

        return tuple(network_from_bytes(content).get_weights())
    return None


def start_of_fold(
    registry: ModelRegistry, decisions: DecisionLog, recipe: Recipe, windows: Windows, fold: Fold
) -> Weights | None:
    """Return the weights that a fold may start from: a champion trained on neither its validation nor its test bars."""
    return start_weights(registry, decisions, recipe, windows.decided_at[fold.validation].min())


def start_of_final(
    registry: ModelRegistry, decisions: DecisionLog, recipe: Recipe, windows: Windows, folds: Sequence[Fold]
) -> Weights | None:
    """Return the weights that the final fit starts from, chosen as the folds' were; None for fresh ones.

    The record describes the network that will serve only if both were fitted by one procedure. So the final fit starts
    fresh unless every fold started warm, and then from a champion as old as theirs: one trained before the newest
    windows, as many as a fold validates on. Epochs added every day to the weights of the day before would overfit more
    and more.

    Args:
        registry: versions and their files.
        decisions: names the former champions.
        recipe: of the fit.
        windows: all resolved windows.
        folds: of the same retrain, oldest test fold first.
    """
    if not all(start_of_fold(registry, decisions, recipe, windows, fold) for fold in folds):
        return None
    newest = len(folds[-1].validation)
    return start_weights(registry, decisions, recipe, windows.decided_at[-newest:].min())


def _fits(theirs: Recipe, ours: Recipe) -> bool:
    return (
        theirs.network == ours.network
        and theirs.window.lookback_bars == ours.window.lookback_bars
        and theirs.window.features == ours.window.features
        and theirs.training.members == ours.training.members
    )
