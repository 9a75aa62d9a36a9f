"""`python -m waybill`: the same as the `waybill` command."""

from waybill.cli import main

main()
