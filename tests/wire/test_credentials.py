"""What a program proves over TCP, and what it then believes."""

import grpc
import pytest

from fairlead.wire.credentials import NONE, Credentials
from fairlead.wire.errors import FairleadError
from fairlead.wire.trust import Trust

TOKEN = Credentials(token="s3cret")
CERTIFICATE = Credentials(certificate_file="c", key_file="k")


@pytest.mark.parametrize(
    ("address", "credentials", "trust"),
    [
        ("host:9000", NONE, Trust.UNTRUSTED),
        ("host:9000", TOKEN, Trust.UNTRUSTED),
        ("host:9000", CERTIFICATE, Trust.UNTRUSTED),
        ("https://host:9000", NONE, Trust.UNTRUSTED),
        ("https://host:9000", Credentials(ca_file="ca"), Trust.UNTRUSTED),
        ("https://host:9000", TOKEN, Trust.AUTHENTICATED),
        ("https://host:9000", CERTIFICATE, Trust.AUTHENTICATED),
    ],
)
def test_trust(address, credentials, trust):
    assert credentials.trust(address) is trust


def test_the_token_goes_along_and_is_not_shown():
    assert TOKEN.metadata() == (("authorization", "Bearer s3cret"),)
    assert NONE.metadata() == ()
    assert "s3cret" not in repr(TOKEN)


def test_files(tmp_path):
    (tmp_path / "ca.pem").write_text("anything")
    assert isinstance(Credentials(ca_file=str(tmp_path / "ca.pem")).for_channel(), grpc.ChannelCredentials)
    with pytest.raises(FairleadError, match=r"cannot read /nowhere: No such file"):
        Credentials(ca_file="/nowhere").for_channel()
    with pytest.raises(FairleadError, match="belong together"):
        Credentials(certificate_file="c").for_channel()
