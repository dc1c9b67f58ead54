/* Preloaded into a program: its POSIX locks become locks of open file descriptions (fcntl(2), F_OFD_SETLK), as some
   builds of SQLite take them. Such a lock is owned by the open file, not by the process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>

static int ofd(int command, struct flock *lock) {
    if (command != F_SETLK && command != F_SETLKW && command != F_GETLK)
        return command;
    lock->l_pid = 0; /* demanded */
    return command == F_SETLK ? F_OFD_SETLK : command == F_SETLKW ? F_OFD_SETLKW : F_OFD_GETLK;
}

#define WRAPPED(name)                                                                                                  \
    int name(int fd, int command, ...) {                                                                               \
        static int (*next)(int, int, ...);                                                                             \
        va_list rest;                                                                                                  \
        if (next == NULL)                                                                                              \
            next = (int (*)(int, int, ...))dlsym(RTLD_NEXT, #name);                                                    \
        va_start(rest, command);                                                                                       \
        void *argument = va_arg(rest, void *);                                                                         \
        va_end(rest);                                                                                                  \
        return next(fd, ofd(command, argument), argument);                                                             \
    }

WRAPPED(fcntl)
WRAPPED(fcntl64)
