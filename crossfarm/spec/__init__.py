"""What the user declares: models, toolchains, pipelines. Validated here and nowhere else; imports nothing of ours but errors."""
