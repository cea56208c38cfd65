"""Worker processes on one machine or over MPI, and job arrays: for work without a GPU."""
