"""Model registries: versions with their evidence, aliases that move atomically, promotion that asks the gates."""
