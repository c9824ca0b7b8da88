"""Settings: where riseorfall runs (folders, addresses, credentials).

No other module reads environment variables (docs/decisions/0019). Experiment options are in the spec classes, which are
logged to MLflow; settings are never logged. Every path is below `home`.
Caution: MLflow and Prefect read the environment by themselves, so `Settings.announce` must run before either
is imported.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.errors import SpecError

MLFLOW_ADDRESS = "MLFLOW_TRACKING_URI"  # MLflow's own variable
PREFECT_ADDRESS, PREFECT_CREDENTIALS = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"  # Prefect's own
LEAST_COLUMNS = 20  # own choice: with fewer, Rich prints a few letters on each line, and with 0 nothing
LOCAL_NAMES = ("127.0.0.1", "localhost")  # of the servers that `up` starts


class Settings(BaseSettings):
    """Folders, addresses and credentials, from `RISEORFALL_*` variables or a `.env` file."""

    model_config = SettingsConfigDict(env_prefix="RISEORFALL_", env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(
        default_factory=lambda: absolute_path(Path()), description="Folder below which everything is kept."
    )
    store: str = Field("", description="Root of the tables, a folder or s3://bucket/prefix; empty: HOME/data/tables.")
    tracking_uri: str = Field("", description="MLflow server or database; empty: HOME/mlruns/mlflow.db.")
    public_url: str = Field("", description="Address at which HOME/data is served; empty: links are file paths.")
    mlflow_url: str = Field("", description="Where a browser finds MLflow; empty: at the tracking address.")
    s3_endpoint_url: str = Field("", description="Address of an S3-compatible store; empty: AWS's own.")
    s3_access_key: str = Field("", description="S3 access key.")
    s3_secret_key: SecretStr = Field(SecretStr(""), description="S3 secret key.")
    max_file_mb: int = Field(512, ge=1, description="Largest file of bars that is read: its size unpacked, in MB.")

    @field_validator("tracking_uri")
    @classmethod
    def _move_credentials(cls, address: str) -> str:
        return move_credentials(address)

    @field_validator("store")
    @classmethod
    def _require_bucket(cls, root: str) -> str:
        parts = urlsplit(root)
        if "://" in root and not (parts.scheme == "s3" and parts.hostname):
            raise ValueError("RISEORFALL_STORE: expected a folder or s3://bucket/prefix")
        return root

    @field_validator("mlflow_url")
    @classmethod
    def _drop_credentials(cls, address: str) -> str:
        return split_credentials(address)[0]

    @property
    def root(self) -> Path:
        """Return `home` as an absolute path."""
        return absolute_path(self.home)

    @property
    def store_root(self) -> str:
        """Return the root of the Delta tables."""
        return self.store or str(self.data_folder / "tables")

    @property
    def data_folder(self) -> Path:
        """Return the folder of everything but MLflow's files; its pages are served."""
        return self.root / "data"

    @property
    def artifact_folder(self) -> Path:
        """Return the folder of the artifacts of MLflow's local database."""
        return self.root / "mlruns" / "artifacts"

    @property
    def docs_folder(self) -> Path:
        """Return the folder of the Data Docs."""
        return self.data_folder / "docs"

    @property
    def reports_folder(self) -> Path:
        """Return the folder of the pages about series, a folder each, and of the chart script that they load."""
        return self.data_folder / "reports"

    @property
    def log_folder(self) -> Path:
        """Return the folder of the log files."""
        return self.data_folder / "logs"

    @property
    def landing_folder(self) -> Path:
        """Return the folder of the bars that a run has read and not yet stored."""
        return self.data_folder / "landing"

    @property
    def up_lock(self) -> Path:
        """Return the file that a running `up` locks."""
        return self.data_folder / "up.lock"

    @property
    def up_state(self) -> Path:
        """Return the state file of a running `up`."""
        return self.data_folder / "up.json"

    @property
    def up_password(self) -> Path:
        """Return the file with the password of the servers that `up` starts."""
        return self.data_folder / "up.password"

    @property
    def mlflow_uri(self) -> str:
        """Return the tracking address: the one configured, MLflow's own variable, or the local database.

        Caution: that of a database may hold a password; `masked` hides it.
        """
        return self.tracking_uri or move_credentials(os.environ.get(MLFLOW_ADDRESS, "")) or self.home_database_uri

    @property
    def served_store(self) -> str:
        """Return the database behind the MLflow server of `up`, in that server's own variable; empty without one.

        Its address may contain a password, and other users can read a command line.
        """
        return os.environ.get("MLFLOW_BACKEND_STORE_URI", "")

    @property
    def prefect_home(self) -> Path:
        """Return the folder of Prefect's database on this machine."""
        return Path(os.environ.get("PREFECT_HOME", "") or self.data_folder / "prefect").expanduser()

    @property
    def has_prefect_database_elsewhere(self) -> bool:
        """Return whether a database is configured for Prefect's server: it is not in `prefect_home`."""
        return any(os.environ.get(f"PREFECT_{part}_DATABASE_CONNECTION_URL") for part in ("API", "SERVER"))

    @property
    def prefect_api_url(self) -> str:
        """Return the address of the configured Prefect server, without a password; empty without one."""
        return split_credentials(os.environ.get(PREFECT_ADDRESS, ""))[0]

    @property
    def prefect_password(self) -> str:
        """Return the `user:password` of the configured Prefect server, from its address first; empty without one."""
        in_address = split_credentials(os.environ.get(PREFECT_ADDRESS, ""))[1]
        return in_address or os.environ.get(PREFECT_CREDENTIALS, "")

    @property
    def home_database_uri(self) -> str:
        """Return the address of the database in this home, whether or not it is used."""
        return f"sqlite:///{self.root / 'mlruns' / 'mlflow.db'}"

    @property
    def local_database(self) -> Path | None:
        """Return the file of MLflow's database; None where MLflow is a server."""
        return database_file(self.mlflow_uri)

    @property
    def local_store(self) -> Path | None:
        """Return the folder of the tables; None where they are on S3."""
        return None if "://" in self.store_root else Path(self.store_root)

    @property
    def has_local_registry(self) -> bool:
        """Return whether MLflow is the home's own database."""
        return self.mlflow_uri == self.home_database_uri

    @property
    def artifact_root(self) -> str:
        """Return where a new experiment keeps its artifacts; empty where a server decides."""
        return self.artifact_folder.as_uri() if self.mlflow_uri.startswith("sqlite:") else ""

    def report_path(self, series_name: str, run_id: str) -> Path:
        """Return where the report of a retrain is written."""
        return self.reports_folder / series_name / report_name(run_id)

    def storage_options(self) -> dict[str, str]:
        """Return the options that deltalake wants for the tables' store; empty for a local folder."""
        if not self.store_root.startswith("s3://"):
            return {}
        options = {
            "AWS_ACCESS_KEY_ID": self.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3_secret_key.get_secret_value(),
            "AWS_ENDPOINT_URL": self.s3_endpoint_url,
            "AWS_ALLOW_HTTP": "true" if self.s3_endpoint_url.startswith("http://") else "",
        }
        return {name: value for name, value in options.items() if value}

    def announce(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Set the variables of MLflow, Prefect, TensorFlow, Great Expectations and children, before they are imported.

        A variable that is set already stays: a configured server wins over the local default. A password in an address
        moves to a variable of its own, since libraries print addresses. To the addresses of this machine that a proxy
        must not be asked for, those of our servers are added.
        """
        quiet = {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # "View run ... at:" breaks the display of progress
            "GX_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # A small network learns faster with one thread per operation, and to the same bits on any number of cores
            # of one type; folds share the cores instead. For a large network, 0 takes them all: to the same bits on as
            # many cores only.
            "TF_NUM_INTRAOP_THREADS": "1",
            "TF_NUM_INTEROP_THREADS": "-1",  # a graph runs in the thread that asks: two folds do not queue in one pool
            "GIT_PYTHON_REFRESH": "quiet",
            # Children of this process (`python -m`, uvicorn) import nothing from the current folder, whatever is there.
            "PYTHONSAFEPATH": "1",
            "UVICORN_APP_DIR": os.devnull,
        }
        if not environment.get(PREFECT_ADDRESS):
            quiet["PREFECT_HOME"] = str(self.prefect_home)
        for name, value in quiet.items():
            environment.setdefault(name, value)
        for name in (MLFLOW_ADDRESS, "RISEORFALL_TRACKING_URI"):  # `up` writes them to a file
            if name in environment:
                environment[name], credentials = split_credentials(environment[name])
                if name != MLFLOW_ADDRESS or not self.tracking_uri:  # a password is for the server in use only
                    environment.update(_mlflow_variables(credentials))
        address, credentials = split_credentials(environment.get(PREFECT_ADDRESS, ""))
        if credentials:
            environment.update({PREFECT_ADDRESS: address, PREFECT_CREDENTIALS: credentials})
        exempt = environment.get("no_proxy") or environment.get("NO_PROXY", "")
        if exempt != "*":
            # With http_proxy set, every client here would send requests to 127.0.0.1, and the password, to the proxy.
            names = dict.fromkeys([*filter(None, exempt.split(",")), *LOCAL_NAMES])
            environment["no_proxy"] = environment["NO_PROXY"] = ",".join(names)

    def link(self, path: Path) -> str:
        """Return a link for a browser: below `public_url` if HOME/data is served, else a file address."""
        if self.public_url and path.is_relative_to(self.data_folder):
            return f"{self.public_url.rstrip('/')}/{path.relative_to(self.root / 'data').as_posix()}"
        return path.as_uri()


def absolute_path(path: Path) -> Path:
    """Return an absolute path without links; SpecError if it is relative and the current folder was deleted."""
    try:
        return path.expanduser().resolve()
    except FileNotFoundError as error:
        raise SpecError(
            "expected a current folder, found that it was deleted. Change to another folder, or set RISEORFALL_HOME to "
            "an absolute path."
        ) from error


def report_name(run_id: str) -> str:
    """Return the file name of the report of a retrain."""
    return f"{run_id}.html"


def database_file(uri: str) -> Path | None:
    """Return the absolute path of the SQLite database at a tracking address; None for a server or with options.

    SQLAlchemy reads a relative path from the current folder, and everything after a `?` as options of the connection.
    """
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") and "?" not in uri else None


def split_credentials(address: str) -> tuple[str, str]:
    """Return the address of a server without user and password, and `user:password`; empty of a database.

    >>> split_credentials("https://me:a%40b@mlflow.example:5000/x")
    ('https://mlflow.example:5000/x', 'me:a@b')
    """
    parts = urlsplit(address)
    who, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme not in {"http", "https"}:
        return address, ""
    user, _, password = who.partition(":")
    return parts._replace(netloc=host).geturl(), f"{unquote(user)}:{unquote(password)}"


def move_credentials(address: str) -> str:
    """Move `user:password` of a server to MLflow's own variables, and return its address, which may be shown."""
    address, credentials = split_credentials(address)
    os.environ.update(_mlflow_variables(credentials))
    return address


def _mlflow_variables(credentials: str) -> dict[str, str]:
    """Return MLflow's variables for `user:password`; none for an empty text."""
    user, _, password = credentials.partition(":")
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password} if credentials else {}


def masked(address: str) -> str:
    """Return an address without its password, to be shown.

    >>> masked("postgresql://me:secret@db.example/mlflow")
    'postgresql://me:***@db.example/mlflow'
    """
    parts = urlsplit(address)
    who, at, host = parts.netloc.rpartition("@")
    user, colon, _ = who.partition(":")
    return parts._replace(netloc=f"{user}:***@{host}").geturl() if at and colon else address


@contextmanager
def preserve_tracking_uri() -> Iterator[None]:
    """Restore MLflow's variable of the tracking address after a call that overwrites it."""
    before = os.environ.get(MLFLOW_ADDRESS)
    try:
        yield
    finally:
        os.environ.pop(MLFLOW_ADDRESS, None)
        if before is not None:
            os.environ[MLFLOW_ADDRESS] = before


def process_environment(**overrides: str) -> dict[str, str]:
    """Return the environment for a child process: a copy of this one, with overrides."""
    return {**os.environ, **overrides}


def set_environment(values: Mapping[str, str], *, replace: bool = False) -> None:
    """Set variables that libraries read from the environment; one that is set already stays unless `replace`."""
    for name, value in values.items():
        if replace or name not in os.environ:
            os.environ[name] = value


def drop_unusable_width() -> None:
    """Unset COLUMNS if it is no width to print at; the width is then the terminal's own, or 80."""
    columns = os.environ.get("COLUMNS", "")
    if not columns.isascii() or not columns.isdigit() or int(columns[:9]) < LEAST_COLUMNS:
        os.environ.pop("COLUMNS", None)
