from tests.validation.conftest import hasty_petal, petal, petal_detector

__all__ = ["hasty_petal", "petal", "petal_detector"]
