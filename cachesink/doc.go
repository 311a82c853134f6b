package cachesink
