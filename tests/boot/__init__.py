"""The Debian package on a booted system: `make boot`.

A Debian image is built (`image`), booted with QEMU (`machine`), and walked as a maker and an operator would
(`test_walk`). The power is cut, and the disk is rebuilt from QEMU's log of writes (`write_log`, `test_power_cuts`). The
package goes into image builders' chroots (`test_chroot`), and is upgraded under load (`test_upgrade`).

Read `machine` first. Everything runs on loopback: the guest reaches a mail server of the test and nothing else.
"""
