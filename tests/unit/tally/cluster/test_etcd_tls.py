"""What an operator is told of a TLS handshake that failed. The texts are gRPC's, of real handshakes."""

import pytest

from tally.cluster.etcd_tls import tls_failure

ALL = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:2379: "
HANDSHAKE = ALL + "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            HANDSHAKE + "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK",
            "TLS failed: certificate verify failed (unable to get local issuer certificate)",
        ),
        (
            HANDSHAKE + "OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE: OK",
            "TLS failed: sslv3 alert bad certificate",
        ),
        (ALL + "Ssl handshake failed: who knows why", "TLS failed"),
        (
            ALL + "Failed to create security handshaker.",
            "TLS failed: certificate and key do not belong together",
        ),
        (
            ALL + "Handshake read failed (Socket closed)",
            "TLS failed: it speaks no TLS there, or refuses this certificate",
        ),
    ],
)
def test_a_handshake_that_failed_is_called_one(said: str, told: str) -> None:
    assert tls_failure(said) == told


@pytest.mark.parametrize("said", [ALL + "Failed to connect to remote host: Connection refused", "Socket closed", ""])
def test_other_failures_are_not_called_one(said: str) -> None:
    assert tls_failure(said) is None
