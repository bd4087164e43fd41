################################################################################
#
# device-ui
#
################################################################################

DEVICE_UI_VERSION = 0.1.0
# A checkout beside the maker's packages.
DEVICE_UI_SITE = $(BR2_EXTERNAL_DEVICE_UI_PATH)/source
DEVICE_UI_SITE_METHOD = local
DEVICE_UI_LICENSE = MIT
DEVICE_UI_LICENSE_FILES = LICENSE
DEVICE_UI_DEPENDENCIES = host-python3

define DEVICE_UI_USERS
	device-ui -1 device-ui -1 * - - - device-ui pages
	device-mail -1 device-mail -1 * - - - device-ui mail hook
	- -1 device-event -1 - - - - who may raise events
endef

define DEVICE_UI_INSTALL_TARGET_CMDS
	$(MAKE) -C $(@D) install DESTDIR=$(TARGET_DIR) PREFIX=/usr \
		PYTHON=$(HOST_DIR)/bin/python3
endef

$(eval $(generic-package))
