"""`python -m myosotis`."""

from myosotis.cli.main import main

main()
