/* The queue of messages that are ready: a collections.deque, whose first item is taken here.

   Its method is looked up once, and then called as a function of C: a look-up and a call through
   the interpreter take several times as long as what it does, and this is done for each message.
   Of anything but a deque the method is called by its name. */

#ifndef SCRIPTLING_WS_QUEUE_H
#define SCRIPTLING_WS_QUEUE_H

#include <Python.h>

/* Without the GIL the field may change as it is read: then deque reads it. */
#if defined(Py_GIL_DISABLED)
#define WS_IS_EMPTY(queue) (PyObject_Size(queue) == 0)
#else
#define WS_IS_EMPTY(queue) (Py_SIZE(queue) == 0)
#endif

static PyObject *WS_DEQUE = NULL;
static PyCFunction WS_POPLEFT = NULL;

/* To be called once, before the others. */
static int ws_use_deque(PyObject *deque) {
    PyObject *method = PyObject_GetAttrString(deque, "popleft");
    if (method == NULL) return -1;
    WS_DEQUE = Py_NewRef(deque);
    if (Py_IS_TYPE(method, &PyMethodDescr_Type)) {
        PyMethodDef *definition = ((PyMethodDescrObject *) method)->d_method;
        if (definition->ml_flags == METH_NOARGS) WS_POPLEFT = definition->ml_meth;
    }
    Py_DECREF(method);  /* the type has it */
    return 0;
}

/* The first item; NULL with an exception, or without one if there is none. */
static PyObject *ws_take_first(PyObject *queue) {
    PyObject *item;
    if (WS_POPLEFT != NULL && Py_IS_TYPE(queue, (PyTypeObject *) WS_DEQUE)) {
        if (WS_IS_EMPTY(queue)) return NULL;
        item = WS_POPLEFT(queue, NULL);
    } else {
        item = PyObject_CallMethod(queue, "popleft", NULL);
    }
    /* Another thread took it. */
    if (item == NULL && PyErr_ExceptionMatches(PyExc_IndexError)) PyErr_Clear();
    return item;
}

#endif
