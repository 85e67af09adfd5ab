"""`python -m tunewright`, the same as `tunewright`."""

from tunewright.cli import main

if __name__ == "__main__":
    main()
