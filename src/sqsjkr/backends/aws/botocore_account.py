"""What botocore knows of the operator's account: credentials, region, endpoints, certificates, identity.

Every source that AWS's own tools read is read here, by botocore itself (environment, shared files, profiles, assumed
roles, web identity, SSO, processes, ECS, EC2), in its order. Runs in ``botocore_process`` alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from botocore.config import Config
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.credentials import RefreshableCredentials
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import BotoCoreError, EndpointResolutionError, InvalidRegionError, ProfileNotFound
from botocore.httpsession import get_cert_path
from botocore.session import Session
from botocore.utils import validate_region_name

from sqsjkr.backends.aws.botocore_errors import Refused, captured_log, explained

_SERVICES = ("sqs", "dynamodb", "sts", "kms", "secretsmanager", "ssm")
"""All that ``client.AWS`` calls, and STS."""
_NO_CREDENTIALS = "cannot get AWS credentials"
_GET_CALLER_IDENTITY = "sts:GetCallerIdentity"


def answer(*, task: str, log_level: int, **question: Any) -> dict[str, Any]:
    """The answer to one question: ``found`` or ``error``, and what botocore logged from ``log_level`` on."""
    with captured_log(log_level) as lines:
        found: dict[str, Any]
        try:
            found = {"found": _identity(**question) if task == "identity" else _account(**question)}
        except Exception as error:  # noqa: BLE001 - a source runs the operator's code: it can raise anything
            action = _GET_CALLER_IDENTITY if task == "identity" else ""
            found = {"error": explained(error, action or _NO_CREDENTIALS, action)}
    return {"log": lines, **found}


def _account(*, profile: str, region: str) -> dict[str, Any]:
    """Find keys, region, addresses and certificates. ``expires`` is seconds since 1970, None for keys that last."""
    session = Session(profile=profile or None)
    try:
        session.set_config_variable("region", _region(session, region))
        credentials = session.get_credentials()
    except ProfileNotFound as error:
        raise Refused(
            f"no AWS profile {_profile_name(session)!r} in {_shared_files(session)}: "
            "correct the name (--profile, AWS_PROFILE) or add it there"
        ) from error
    if credentials is None:
        raise Refused(
            "no AWS credentials: looked at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile "
            f"{_profile_name(session)!r} in {_shared_files(session)}, and the roles of ECS and EC2; "
            "set one of them up, or name another profile"
        )
    keys = credentials.get_frozen_credentials()
    region = session.get_config_variable("region")
    return {
        "keys": {"access_key": keys.access_key, "secret_key": keys.secret_key, "token": keys.token},
        "expires": _expiry(credentials),
        "region": region,
        "endpoints": {service: _endpoint(session, region, service) for service in _SERVICES},
        "certificates": {
            "bundle": session.get_config_variable("ca_bundle") or "",
            "fallback": get_cert_path(verify=True),
        },
    }


def _expiry(credentials: Any) -> float | None:
    if not isinstance(credentials, RefreshableCredentials):
        return None
    expires = credentials._expiry_time  # noqa: SLF001 - refresh_needed knows it, but says only yes or no
    return float(expires.timestamp()) if expires else None


def _region(session: Any, given: str) -> str:
    region = given or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if not region:
        raise Refused(
            f"no AWS region: set AWS_REGION, --region, or region for the profile {_profile_name(session)!r} "
            f"in {_shared_files(session)}"
        )
    try:
        validate_region_name(region)
    except InvalidRegionError as error:
        raise Refused(f"AWS region {region!r}: not a region's name, expected one like us-east-1") from error
    return str(region)


def _endpoint(session: Any, region: str, service: str) -> dict[str, Any]:
    """Return where ``service`` is, or why its settings are wrong: that matters only if it is called."""
    try:
        return _found_endpoint(session, region, service)
    except (BotoCoreError, EndpointResolutionError) as error:
        return {"error": f"no address for {service} in region {region!r}: {error}"}


def _found_endpoint(session: Any, region: str, service: str) -> dict[str, Any]:
    if not session.get_config_variable("ignore_configured_endpoint_urls"):
        url = ConfiguredEndpointProvider(session.full_config, session.get_scoped_config(), service).provide()
        if url:
            return {"url": url, "region": region, "custom": True}
    loader = session.get_component("data_loader")
    rules = loader.load_service_model(service, "endpoint-rule-set-1")
    found = EndpointProvider(rules, loader.load_data("partitions")).resolve_endpoint(
        Region=region,
        UseDualStack=bool(session.get_config_variable("use_dualstack_endpoint")),
        UseFIPS=bool(session.get_config_variable("use_fips_endpoint")),
    )
    schemes = found.properties.get("authSchemes") or [{}]
    return {"url": found.url, "region": schemes[0].get("signingRegion", region), "custom": False}


def _identity(*, profile: str, region: str, keys: Mapping[str, str | None]) -> dict[str, Any]:
    """Ask STS whose keys these are. Takes 20 seconds at most."""
    session = Session(profile=profile or None)
    session.set_config_variable("region", region)
    session.set_credentials(keys["access_key"], keys["secret_key"], keys["token"])
    limits = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 2})
    return {"arn": session.create_client("sts", config=limits).get_caller_identity()["Arn"]}


def _profile_name(session: Any) -> str:
    return session.get_config_variable("profile") or "default"


def _shared_files(session: Any) -> str:
    names = (session.get_config_variable("config_file"), session.get_config_variable("credentials_file"))
    return " and ".join(map(str, names))
