"""What ``build.py`` makes to be shipped: one executable, or a folder of it, a zip file, a wheel; and what is in them."""
