"""What kts itself costs: each module is one measurement with a ``main``. ``python -m bench`` runs them all."""
