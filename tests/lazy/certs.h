/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tests/lazy/certs.h - certificates for the tests of TLS, made anew by certs.sh (which names them) in a scratch directory */
#ifndef TESTS_LAZY_CERTS_H
#define TESTS_LAZY_CERTS_H

#include <stdbool.h>

#include "lazy/fake_server.h"

bool certs_make(void); /* false: certtool is not installed */
void certs_remove(void);

/* The path of one, valid for the next fifteen calls. */
const char *certs_file(const char *name);

/* A fake server's certificate is `who`'s; it trusts the first authority. */
void certs_serve(struct fake_options *o, const char *who);

#endif
