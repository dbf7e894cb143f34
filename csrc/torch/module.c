// An empty extension module: importing it loads the library, whose static initialisers register the
// operators, and makes a failed load an ordinary ImportError.
#include <Python.h>

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_C", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__C(void) { return PyModule_Create(&module); }
