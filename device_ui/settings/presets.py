"""The mail providers that the SMTP tab can fill in: host, port, security and sign-in of each, and the hint that it needs. Pure.

One row a provider. Every row names the source of its values: the provider's own documentation, which the register of
Thunderbird (github.com/thunderbird/autoconfig, ``ispdb``) names as well for those marked so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from device_ui.errors import Message, Text
from device_ui.settings.fields import SECURITY_WORDS


@dataclass(frozen=True)
class Preset:
    """What one provider's documentation says: the values of the tab, the `hint` that a person needs, and the `source`.

    `account` is the login where it is the same for everybody, else ``""``. With an empty `host` the person types it.
    """

    title: str
    host: str
    hint: Text
    source: str
    port: int = 587
    security: str = "auto"
    # Every provider issues passwords of its own form, or logins with dots: the manual's rules would refuse most of them.
    sign_in: str = "provider"
    account: str = ""
    # With the sign-in by OAuth 2.0: who issues the tokens.
    oauth_provider: str = ""

    @property
    def values(self) -> Mapping[str, str]:
        """The fields that it fills in, by name; the others stay as they are."""
        known = {"account": self.account, "oauth_provider": self.oauth_provider}
        # An empty host replaces a stored one: the port of a relay with the host of a provider would be a mixture of two.
        return {
            "host": self.host,
            "port": str(self.port),
            "security": self.security,
            "sign_in": self.sign_in,
            **{name: value for name, value in known.items() if value},
        }


APP_PASSWORD = (
    "Type an app password, which you make in the security settings of the account; its usual password is refused."
)

# By the word in the address of the page (``/smtp?preset=gmail``). In the order of the page: for work, for sending, for one person.
PRESETS: Mapping[str, Preset] = {
    "microsoft-365": Preset(
        "Microsoft 365",
        "smtp.office365.com",
        "Type the tenant and the client ID of an application in Microsoft Entra, press Update, then go on under “Sign-in by OAuth 2.0”. "
        "Sign-in by password is off from the end of December 2026, unless the administrator keeps it.",
        "https://learn.microsoft.com/exchange/mail-flow-best-practices/how-to-set-up-a-multifunction-device-or-application-to-send-"
        "email-using-microsoft-365-or-office-365",
        sign_in="oauth",
        oauth_provider="microsoft",
    ),
    "gmail": Preset("Gmail", "smtp.gmail.com", APP_PASSWORD, "https://support.google.com/a/answer/176600"),
    "google-relay": Preset(
        "Google Workspace relay",
        "smtp-relay.gmail.com",
        "Allow the public IP address of this site in the Google Admin console, under “SMTP relay service”. The from address is one of "
        "your domain.",
        "https://support.google.com/a/answer/2956491",
        # With TLS the relay may trust the address alone; a login is for those without a fixed one.
        sign_in="none",
    ),
    "amazon-ses": Preset(
        "Amazon SES",
        "email-smtp.us-east-1.amazonaws.com",
        "Change us-east-1 to your region. Account and password are SMTP credentials, not the access keys of AWS; the from address is a "
        "verified one.",
        "https://docs.aws.amazon.com/ses/latest/dg/smtp-connect.html",
    ),
    "sendgrid": Preset(
        "SendGrid",
        "smtp.sendgrid.net",
        "The account is the word apikey, and the password is the API key. The from address is a verified sender.",
        "https://www.twilio.com/docs/sendgrid/for-developers/sending-email/integrating-with-the-smtp-api",
        account="apikey",
    ),
    "mailgun": Preset(
        "Mailgun",
        "smtp.mailgun.org",
        "For a domain in the EU the host is smtp.eu.mailgun.org. Account and password are the SMTP credentials of the domain.",
        "https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-smtp",
    ),
    "brevo": Preset(
        "Brevo",
        "smtp-relay.brevo.com",
        "Account and password are the SMTP login and an SMTP key, not an API key. The from address is a verified sender.",
        "https://developers.brevo.com/docs/smtp-integration",
    ),
    "zoho": Preset(
        "Zoho Mail",
        "smtp.zoho.com",
        "With a domain of your own on a paid plan the host is smtppro.zoho.com; outside the US it ends as the address of your Zoho page, "
        "such as .eu or .in. With two-factor sign-in, type an app password.",
        "https://www.zoho.com/mail/help/zoho-smtp.html",  # ispdb/zoho.com.xml
        port=465,
    ),
    "yahoo": Preset(
        "Yahoo Mail",
        "smtp.mail.yahoo.com",
        APP_PASSWORD,
        "https://help.yahoo.com/kb/imap-server-settings-yahoo-mail-sln4075.html",  # ispdb/yahoo.com.xml
        port=465,
    ),
    "icloud": Preset(
        "iCloud Mail",
        "smtp.mail.me.com",
        APP_PASSWORD,
        "https://support.apple.com/102525",  # ispdb/me.com.xml by its former number, HT202304
    ),
    "fastmail": Preset(
        "Fastmail",
        "smtp.fastmail.com",
        APP_PASSWORD,
        "https://www.fastmail.com/help/technical/servernamesandports.html",
        port=465,
    ),
    "proton": Preset(
        "Proton Mail",
        "smtp.protonmail.ch",
        "Type an SMTP token as the password. Proton issues one for an address of a domain of your own, on a paid plan.",
        "https://proton.me/support/smtp-submission",
    ),
    "gmx": Preset(
        "GMX",
        "mail.gmx.net",
        "Allow POP3 and IMAP in the settings of the mailbox first. For an address at gmx.com the host is mail.gmx.com. With two-factor "
        "sign-in, type an app password.",
        "https://hilfe.gmx.net/pop-imap/imap/imap-serverdaten.html",  # ispdb/gmx.net.xml, gmx.com.xml
    ),
    "naver": Preset(
        "Naver",
        "smtp.naver.com",
        "Allow IMAP/SMTP in the settings of the mailbox first. Type an application password, which Naver issues with two-step sign-in.",
        "https://help.naver.com/service/30029/contents/21342",  # ispdb/naver.com.xml
        port=465,
    ),
    "daum": Preset(
        "Kakao, Daum",
        "smtp.daum.net",
        "Allow IMAP/SMTP in the settings of the mailbox first. For an address at kakao.com the host is smtp.kakao.com. Type an app "
        "password, which Kakao issues with two-step sign-in.",
        "https://cs.daum.net/faq/43/9234.html",  # ispdb/daum.net.xml
        port=465,
    ),
    "relay": Preset(
        "Our own relay",
        "",
        Message(
            "Type the name of the relay. If it offers no TLS, choose the connection security “{choice}” under “Advanced”; if it asks for a login, a sign-in with one.",
            choice=Message(SECURITY_WORDS["none"]),
        ),
        "https://www.rfc-editor.org/rfc/rfc6409#section-3.1",
        port=25,
        sign_in="none",
    ),
}
