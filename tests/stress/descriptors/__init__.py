"""Operations of the loop whose files' numbers change hands: what test_descriptor_soak.py runs."""
