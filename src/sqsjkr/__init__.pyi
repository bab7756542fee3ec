from sqsjkr.api import load_config, run, run_async
from sqsjkr.config import Config
from sqsjkr.errors import BackendRefused, BackendUnavailable, BindError, ConfigError, InvalidJob, SqsjkrError
from sqsjkr.job import Job
from sqsjkr.locker import Locker, NoLocker
from sqsjkr.runs import Holder
from sqsjkr.throttler import Claim, NoThrottler, Throttler

__version__: str

__all__ = [
    "BackendRefused",
    "BackendUnavailable",
    "BindError",
    "Claim",
    "Config",
    "ConfigError",
    "Holder",
    "InvalidJob",
    "Job",
    "Locker",
    "NoLocker",
    "NoThrottler",
    "SqsjkrError",
    "Throttler",
    "__version__",
    "load_config",
    "run",
    "run_async",
]
