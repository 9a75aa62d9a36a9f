"""`python -m waybill`: the same as the `waybill` command."""

import gc

gc.disable()  # imports leave nothing to collect, and it would be looked for often

from waybill.cli import main  # noqa: E402

gc.enable()
main()
