/* A function of Python's with a shortcut: in C, for the calls of it that are usual.

   `ws_method` is what a class has in place of the function.  A call as `connection.send(message)`,
   with one argument or, if the function has a default for it, none, and nothing by name, is
   tried by C code first.  What that code does not do at once, and every other call, is the
   function's: so the function is the whole of what is done, and this is only quicker.

   In C because Cython has no class whose objects are called without a tuple for the arguments.
   All else that is asked of such an object (its name, its annotations, its code, its class) it
   asks the function: inspect, typing, mock and the documentation see that. */

#ifndef SCRIPTLING_WS_SHORTCUTS_H
#define SCRIPTLING_WS_SHORTCUTS_H

#include <Python.h>
#include <stddef.h>
#include <structmember.h>

/* What is done in place of the function, with what the object keeps for it, and the argument.
   It returns the function's result, or NULL: with an exception, or without one if nothing was done. */
typedef PyObject *(*ws_shortcut)(PyObject *kept, PyObject *argument);

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    ws_shortcut shortcut;
    PyObject *function;
    PyObject *fallback;  /* the argument's default; NULL if there is none */
    PyObject *name;      /* of the attribute in which an object keeps what the shortcut needs */
    PyTypeObject *kind;  /* of that */
    PyObject *references;
} ws_method;

static PyObject *
ws_method_call(PyObject *object, PyObject *const *arguments, size_t flags, PyObject *names) {
    ws_method *self = (ws_method *) object;
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    PyObject *argument = count == 2 ? arguments[1] : count == 1 ? self->fallback : NULL;
    if (names == NULL && argument != NULL) {
        PyObject *kept = PyObject_GetAttr(arguments[0], self->name), *result = NULL;
        if (kept != NULL) {
            if (Py_TYPE(kept) == self->kind) result = self->shortcut(kept, argument);
            Py_DECREF(kept);
        } else if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();  /* the function says what the object lacks */
        }
        if (result != NULL || PyErr_Occurred()) return result;
    }
    return PyObject_Vectorcall(self->function, arguments, flags, names);
}

static PyObject *ws_method_bind(PyObject *self, PyObject *object, PyObject *type) {
    return object == NULL ? Py_NewRef(self) : PyMethod_New(self, object);
}

static PyObject *ws_method_attribute(PyObject *self, PyObject *name) {
    PyObject *found = PyObject_GenericGetAttr(self, name);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        found = PyObject_GetAttr(((ws_method *) self)->function, name);
    }
    return found;
}

static PyObject *ws_method_repr(PyObject *self) {
    return PyObject_Repr(((ws_method *) self)->function);
}

/* What every object has of its type, and is to have of its function. */
static PyObject *ws_method_of_function(PyObject *self, void *name) {
    return PyObject_GetAttrString(((ws_method *) self)->function, (const char *) name);
}

/* Pickled and copied as a function is: by its name. */
static PyObject *ws_method_reduce(PyObject *self, PyObject *nothing) {
    return PyObject_GetAttrString(self, "__qualname__");
}

static int ws_method_traverse(PyObject *object, visitproc visit, void *arg) {
    ws_method *self = (ws_method *) object;
    Py_VISIT(self->function);
    Py_VISIT(self->fallback);
    Py_VISIT(self->kind);
    Py_VISIT(Py_TYPE(object));
    return 0;
}

static int ws_method_clear(PyObject *object) {
    ws_method *self = (ws_method *) object;
    Py_CLEAR(self->function);
    Py_CLEAR(self->fallback);
    Py_CLEAR(self->name);
    Py_CLEAR(self->kind);
    return 0;
}

static void ws_method_free(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (((ws_method *) object)->references != NULL) PyObject_ClearWeakRefs(object);
    ws_method_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyMemberDef ws_method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(ws_method, call), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ws_method, references), READONLY, NULL},
    {"__wrapped__", T_OBJECT_EX, offsetof(ws_method, function), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef ws_method_properties[] = {
    {"__class__", ws_method_of_function, NULL, NULL, "__class__"},  /* so isinstance() and inspect */
    {"__doc__", ws_method_of_function, NULL, NULL, "__doc__"},
    {"__module__", ws_method_of_function, NULL, NULL, "__module__"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef ws_method_methods[] = {
    {"__reduce__", ws_method_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ws_method_slots[] = {
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, ws_method_bind},
    {Py_tp_getattro, ws_method_attribute},
    {Py_tp_repr, ws_method_repr},
    {Py_tp_traverse, ws_method_traverse},
    {Py_tp_clear, ws_method_clear},
    {Py_tp_dealloc, ws_method_free},
    {Py_tp_methods, ws_method_methods},
    {Py_tp_members, ws_method_members},
    {Py_tp_getset, ws_method_properties},
    {0, NULL},
};

static PyType_Spec ws_method_spec = {
    "scriptling_ws._wsframe.method",
    sizeof(ws_method),
    0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
        Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_IMMUTABLETYPE |
        Py_TPFLAGS_DISALLOW_INSTANTIATION,
    ws_method_slots,
};

static PyObject *ws_method_type(void) { return PyType_FromSpec(&ws_method_spec); }

/* A function with a shortcut.  `fallback` is NULL if the argument has no default. */
static PyObject *ws_method_with(
    PyObject *type, PyObject *function, ws_shortcut shortcut, PyObject *fallback, PyObject *name,
    PyObject *kind
) {
    ws_method *self = PyObject_GC_New(ws_method, (PyTypeObject *) type);
    if (self == NULL) return NULL;
    self->call = ws_method_call;
    self->shortcut = shortcut;
    self->function = Py_NewRef(function);
    self->fallback = Py_XNewRef(fallback);
    self->name = Py_NewRef(name);
    self->kind = (PyTypeObject *) Py_NewRef(kind);
    self->references = NULL;
    PyObject_GC_Track((PyObject *) self);
    return (PyObject *) self;
}

#endif
