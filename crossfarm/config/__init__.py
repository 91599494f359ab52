"""What the user declares: models, toolchains, pipelines. Validated here alone; imports nothing of ours but errors."""
