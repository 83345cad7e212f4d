"""A search for the values of settings, such as the strength of a penalty: trials, chosen by Optuna, each a few runs."""
