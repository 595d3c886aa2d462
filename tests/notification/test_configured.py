"""The settings of channels: read, named, refused by name and never by address."""

import pytest

from orderstream.contract.errors import ConfigurationError
from orderstream.notification.channel_mail import MailChannel
from orderstream.notification.configured import channels_of
from orderstream.runtime.channels import read_named, read_secrets
from orderstream.runtime.clock import utc_now
from tests.notification.conftest import DEFAULTS, TEMPLATES
from tests.notification.receivers import SECRET

MAIL = "mailtos://shop:pass%2Cword@smtp.example.com:587?from=shop@example.com&to={email}"


def made(notify: str, webhooks: str | None = None) -> list[object]:
    return list(
        channels_of(
            read_named(notify, webhooks),
            read_secrets(SECRET),
            TEMPLATES,
            DEFAULTS,
            utc_now,
            allow_private=False,
        )
    )


class TestNames:
    @pytest.mark.parametrize(
        ("notify", "to_log", "names"),
        [
            ("log", True, []),
            (MAIL, False, ["mailto"]),
            (f"log, {MAIL} ,sms=json://h/{{phone}}", True, ["mailto", "sms"]),
            ("json://h/a,b,log", True, ["json"]),
            ("a=json://h/?to=x,y, b=json://h/", False, ["a", "b"]),
        ],
    )
    def test_are_given_or_the_schemes(self, notify: str, to_log: bool, names: list[str]) -> None:
        named = read_named(notify, None)
        assert (named.to_log, named.names) == (to_log, names)

    def test_of_webhooks_are_their_hosts(self) -> None:
        named = read_named("log", "https://Shop.example.com/a?b=c, erp=http://10.0.0.1/x")
        assert named.names == ["webhook-shop.example.com", "erp"]

    @pytest.mark.parametrize(
        ("notify", "webhooks", "said"),
        [
            ("nothing", None, "number 1 is neither"),
            ("log,json://a/,json://b/", None, "two channels are called json"),
            ("log=json://a/", None, "two channels are called log"),
            ("log", "https://a.bb/1,https://a.bb/2", "called webhook-a.bb"),
            ("log", "ftp://secret@a.bb", "not http:// or https://"),
            ("log", "log", "names no address"),
            ("log", "https://[::1", "is not https://HOST"),
            ("log", "https://a.bb:99999/", "is not https://HOST"),
            ("log", "https://user:secret@a.bb/", "is not https://HOST"),
            ("log", "https://a..bb/", "is not https://HOST"),
            ("log", "https:///x", "is not https://HOST"),
            ("log", "https://a.bb/x y", "is not https://HOST"),
            ("log", "https://[::1]/", "needs a name"),
            ("json://a/?to=x,SMS=json://b/", None, "number 2 needs a name"),
            ("json://a/,sms_de=json://b/", None, "number 2 needs a name"),
            ("json://a/,JSON://b/", None, "two channels are called json"),
        ],
    )
    def test_that_would_be_unclear_are_refused(
        self, notify: str, webhooks: str | None, said: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=said):
            read_named(notify, webhooks)


class TestAMailAddress:
    def test_becomes_a_channel_of_ours(self) -> None:
        (mail,) = made(MAIL)
        assert isinstance(mail, MailChannel)
        assert (mail.name, mail.personal) == ("mailto", True)
        server = mail._server  # pyright: ignore[reportPrivateUsage]
        assert (server.host, server.port, server.secure) == ("smtp.example.com", 587, "starttls")
        assert (server.user, server.password, server.verify) == ("shop", "pass,word", True)
        assert (server.sender, server.to) == ("shop@example.com", ())

    def test_with_addresses_of_its_own_goes_there(self) -> None:
        (mail,) = made(MAIL.replace("{email}", "a@example.com"))
        assert isinstance(mail, MailChannel)
        assert not mail.personal


class TestMailToNobodyInParticular:
    @pytest.mark.parametrize(
        "target",
        [
            *(
                "to=staff",
                "to={mail}",
                "to={phone}@sms.example.com",
                "to={email},staff@example.com",
            ),
            *("from={email}&to={email}", "to=a@example.com&cc=b@example.com"),
        ],
    )
    def test_is_refused_at_the_start(self, target: str) -> None:
        with pytest.raises(ConfigurationError, match="ORDERSTREAM_NOTIFY: mailto: "):
            made(f"mailto://smtp.example.com?from=shop@example.com&{target}")


class TestAFault:
    def test_names_every_channel_at_fault_and_no_address(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            made("one=nonsense://secret-token,two=mailto://?x=secret-too")
        assert len(refused.value.faults) == 2
        assert "ORDERSTREAM_NOTIFY: one:" in refused.value.faults[0]
        assert "secret" not in str(refused.value)

    def test_of_a_secret_does_not_repeat_it(self) -> None:
        with pytest.raises(ConfigurationError, match="ORDERSTREAM_WEBHOOK_SECRET") as refused:
            read_secrets("whsec_tooshort")
        assert "tooshort" not in str(refused.value)
