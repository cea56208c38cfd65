"""Worker pools, MPI and job arrays for work that needs no GPU."""
