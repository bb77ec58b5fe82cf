"""Where etcd is: what settings are understood."""

import re
from pathlib import Path

import pytest

from tally.cluster.etcd import EtcdSettings, parse_endpoints
from tally.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("127.0.0.1:2379", ("127.0.0.1:2379",)),
        ("a:1,b-2.example_x:65535", ("a:1", "b-2.example_x:65535")),
        (" a:1 , b:2 ", ("a:1", "b:2")),
        ("[::1]:2379", ("[::1]:2379",)),
        ("http://a:1,http://b:2/", ("a:1", "b:2")),
        ("https://a:1", ("https://a:1",)),
    ],
)
def test_endpoints_are_read(text: str, endpoints: tuple[str, ...]) -> None:
    assert parse_endpoints(text) == endpoints


@pytest.mark.parametrize(
    "text",
    ["", ",", "a", "a:", ":1", "a:0", "a:65536", "a:1:2", "a:1,", "ftp://a:1", "a:1/x", "::1:2379", "u@a:1", "a :1"],
)
def test_endpoints_that_lead_nowhere_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="etcd"):
        parse_endpoints(text)


def test_one_https_endpoint_makes_all_of_them_encrypted() -> None:
    """A password must not go to another endpoint in the clear."""
    settings = EtcdSettings(endpoints=("a:1", "https://b:2"))
    assert settings.tls
    assert settings.targets == ("a:1", "b:2")


def test_authority_asks_for_tls() -> None:
    assert EtcdSettings(endpoints=("a:1",), ca_file=Path("ca.pem")).tls
    assert not EtcdSettings(endpoints=("a:1",)).tls


USER, PASSWORD = "--etcd-user (TALLY_ETCD_USER)", "--etcd-password (TALLY_ETCD_PASSWORD)"
CERT, KEY = "--etcd-cert (TALLY_ETCD_CERT)", "--etcd-key (TALLY_ETCD_KEY)"


@pytest.mark.parametrize(
    ("half", "told"),
    [
        ({"endpoints": ()}, "etcd is ''; allowed: at least one host:port"),
        ({"user": "u"}, f"{PASSWORD} must be given: {USER} goes with it"),
        ({"password": "p"}, f"{USER} must be given: {PASSWORD} goes with it"),
        ({"cert_file": Path("c")}, f"{KEY} must be given: {CERT} goes with it"),
        ({"key_file": Path("k")}, f"{CERT} must be given: {KEY} goes with it"),
    ],
)
def test_half_a_setting_is_refused_and_the_other_half_named(half: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
        EtcdSettings(**({"endpoints": ("a:1",)} | half))  # type: ignore[arg-type] # Drawn by name.
