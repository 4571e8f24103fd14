"""The outer loop: Optuna's study, its sampler, trials and workers."""
