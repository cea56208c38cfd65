"""The stages of the recipe, one implementation per verb, and what reads them."""
