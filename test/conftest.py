"""Its folder is on sys.path for every test below, helpers included."""
