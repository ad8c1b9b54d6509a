"""The pool of real-data SER heads whose softmax outputs the distiller matches (Eq. 6)."""
