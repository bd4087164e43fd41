"""``python -m device_ui`` is ``device-ui``."""

import sys

from device_ui.cli.entry import main

sys.exit(main())
