"""What the user declares: models, toolchains, pipelines. Validated here alone; imports only errors and util of ours."""
