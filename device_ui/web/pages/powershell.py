"""The lines of PowerShell for the administrator of a Microsoft 365 tenant, filled in from the stored settings."""

from __future__ import annotations

from device_ui.settings.fields import SmtpSettings

# Quotation marks that PowerShell takes for a single one (its tokenizer's IsSingleQuote); doubled, each is a character.
QUOTES = "'‘’‚‛"
# The administrator's part, with one mailbox as the limit of the right (RBAC for Applications; learn.microsoft.com, Application
# Access to SMTP). The object ID is the enterprise application's, which the device cannot know.
POWERSHELL = """\
$object = '<Object ID of the enterprise application>'
Connect-ExchangeOnline
New-ServicePrincipal -AppId {client} -ObjectId $object -DisplayName 'device-ui'
New-ManagementScope -Name 'device-ui' -RecipientRestrictionFilter {filter}
New-ManagementRoleAssignment -Role 'Application SMTP.SendAsApp' -App $object -CustomResourceScope 'device-ui'
Set-CASMailbox {mailbox} -SmtpClientAuthenticationDisabled $false
Test-ServicePrincipalAuthorization $object -Resource {mailbox}
"""


def lines(settings: SmtpSettings) -> str:
    """Return the lines for the tenant's administrator, with what is typed by a person quoted."""
    inner = settings.account.replace("'", "''")
    return POWERSHELL.format(
        client=_quoted(settings.oauth_client),
        mailbox=_quoted(settings.account),
        filter=_quoted(f"PrimarySmtpAddress -eq '{inner}'"),
    )


def _quoted(value: str) -> str:
    return "'" + "".join(2 * each if each in QUOTES else each for each in value) + "'"
