"""`python -m fam_jax`: the command line."""

from fam_jax.apps.main import main

if __name__ == "__main__":
    main()
