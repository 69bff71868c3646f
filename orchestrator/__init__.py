"""From a spec to a table: plan, launch, watch, resume, aggregate. Trains nothing itself."""
