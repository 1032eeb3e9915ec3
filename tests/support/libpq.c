/* Tells how libpq reads connection strings, for the test that compares. In: one string a line, each byte as two hex
 * digits. Out: one line each, "refused", or "keyword=value" pairs with the values in hex, separated by blanks. Loads the
 * library by hand, so that no header has to be installed. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

struct option { char *keyword, *variable, *compiled, *value, *label, *display; int size; };

int main(void) {
    static char line[1 << 16], text[1 << 15];
    void *library = dlopen("libpq.so.5", RTLD_NOW);
    if (!library) { fprintf(stderr, "%s\n", dlerror()); return 1; }
    struct option *(*parse)(const char *, char **);
    void (*release)(void *);
    *(void **)&parse = dlsym(library, "PQconninfoParse");
    *(void **)&release = dlsym(library, "PQconninfoFree");
    while (fgets(line, sizeof line, stdin)) {
        size_t length = strcspn(line, "\n") / 2;
        for (size_t i = 0; i < length; i++) {
            unsigned byte;
            sscanf(line + 2 * i, "%2x", &byte);
            text[i] = (char)byte;
        }
        text[length] = 0;
        struct option *options = parse(text, NULL);
        if (!options) { puts("refused"); continue; }
        for (struct option *o = options; o->keyword; o++) {
            if (!o->value) continue;
            printf("%s=", o->keyword);
            for (char *p = o->value; *p; p++) printf("%02x", (unsigned char)*p);
            putchar(' ');
        }
        putchar('\n');
        release(options);
    }
    return 0;
}
