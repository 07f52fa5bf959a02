"""Connections to CRMs: `base` says what each one does, `catalogue` which there are, one module knows each CRM."""
