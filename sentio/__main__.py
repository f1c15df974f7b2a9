"""`python -m sentio` is `sentio`."""

from sentio.cli.main import main

if __name__ == "__main__":
    main()
