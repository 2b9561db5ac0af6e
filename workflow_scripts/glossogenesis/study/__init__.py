"""Studies: pydantic models of a YAML file, one module a section; unknown keys are errors."""
