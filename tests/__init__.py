"""What is tested: see the docstring of each folder."""

import pytest

pytest.register_assert_rewrite("tests.support", "tests.integration.services")
