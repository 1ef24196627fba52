"""``python -m marauder`` is the command ``marauder``."""

from marauder.cli.main import main

if __name__ == "__main__":
    main()
