// SPDX-License-Identifier: LGPL-2.1-or-later
/* tests/abi/user.c - the smallest user of an installed libthaw: makes a monitor, is refused, reads why */
#include <stdio.h>
#include <string.h>
#include <thaw.h>

int main(void)
{
	struct thaw *h = thaw_create();

	if (!h) {
		printf("thaw_create: %s\n", thaw_get_error());
		return 1;
	}
	if (thaw_set_copiers(h, 100000) != -1 || thaw_get_errno() == 0 || !strstr(thaw_get_error(), "thaw_set_copiers: ")) {
		printf("100000 copiers: %d '%s'\n", thaw_get_errno(), thaw_get_error());
		return 1;
	}
	if (thaw_set_copiers(h, 2) != 0) {
		printf("%s\n", thaw_get_error());
		return 1;
	}
	thaw_close(h);
	thaw_close(NULL);
	printf("%s\n", thaw_get_version());
	return 0;
}
