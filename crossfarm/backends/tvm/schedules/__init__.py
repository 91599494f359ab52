"""CPU schedules of float32 operators, by rules or by recorded choices."""
