"""What tests share, by subject. No test is here, and no test is imported by another."""
