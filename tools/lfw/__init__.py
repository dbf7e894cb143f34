"""What `tools/lfw_recipe.py` is made of."""
