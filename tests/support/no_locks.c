/* A file system that gives no locks, as a network share may: what a program preloads has its locks refused (ENOLCK): those of whole files
   alone with ONLY_FLOCK. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>

static int refused(void)
{
    errno = ENOLCK;
    return -1;
}

int flock(int file, int operation)
{
    (void)file, (void)operation;
    return refused();
}

static int control(const char *name, int file, int command, void *argument)
{
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    if (!getenv("ONLY_FLOCK") && (command == F_SETLK || command == F_SETLKW || command == F_GETLK))
        return refused();
    return real(file, command, argument);
}

int fcntl(int file, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return control("fcntl", file, command, argument);
}

int fcntl64(int file, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return control("fcntl64", file, command, argument);
}
