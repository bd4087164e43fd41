# For a layer of the maker. The source beside it: git archive --prefix=device-ui-0.1.0/ -o device-ui-0.1.0.tar.gz HEAD
SUMMARY = "The e-mail page of a small appliance, and the process that mails its events"
DESCRIPTION = "A web page on which an operator sets up e-mail, and a daemon that stores and mails every event of the firmware."
SECTION = "net"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=eb45b2b3e8680f8574be808eb221c8b2"

SRC_URI = "file://${BP}.tar.gz"

inherit python3native systemd useradd

FILES:${PN} += "${prefix}/lib ${systemd_system_unitdir}"

# Older ones have known vulnerabilities, or lack HPKE (device-ui check reports it on the device); later ones were not tested.
RDEPENDS:${PN} = "\
    python3-bottle (>= 0.12.20) python3-bottle (< 0.14) \
    python3-cryptography (>= 47) python3-cryptography (< 51) \
    python3-modules \
    python3-waitress (>= 3.0.2) python3-waitress (< 3.1) \
"

SYSTEMD_SERVICE:${PN} = "\
    device-ui-certificate-first.service \
    device-ui-certificate.timer \
    device-ui-first.service \
    device-ui-mailhook.service \
    device-ui-mailhook.socket \
    device-ui-periodic.timer \
    device-ui-reset.service \
    device-ui-setup-code.service \
    device-ui-token.timer \
    device-ui-web.socket \
"

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system device-event"
USERADD_PARAM:${PN} = "\
    --system --user-group --no-create-home --home-dir /nonexistent --shell /sbin/nologin device-ui; \
    --system --user-group --no-create-home --home-dir /nonexistent --shell /sbin/nologin device-mail \
"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    oe_runmake install DESTDIR=${D} PREFIX=${prefix} PYTHON=${PYTHON}
}
