"""Recipes of published settings: YAML files, the data they want, and the rewards that score it. See README.md."""
