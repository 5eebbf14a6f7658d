"""Socket addresses, between the kernel's form and the socket module's."""

from libc.stdint cimport uint16_t, uint32_t

cdef extern from "<sys/socket.h>" nogil:
    enum:
        AF_UNIX
        AF_INET
        AF_INET6

    ctypedef unsigned int socklen_t

    struct sockaddr:
        uint16_t sa_family

cdef extern from "sockaddr.h" nogil:
    struct in_addr:
        uint32_t s_addr

    struct in6_addr:
        pass

    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr

    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

    struct sockaddr_un:
        uint16_t sun_family
        char *sun_path

    struct address:
        sockaddr sa
        sockaddr_in v4
        sockaddr_in6 v6
        sockaddr_un un
        socklen_t length

    union ip_address:
        unsigned short family

    void address_clear(address *address)
    void ip_address_keep(ip_address *ip, const address *address)
    void ip_address_ask(ip_address *ip, int fd, bint of_peer)

cdef object address_to_python(const address *address)
cdef object ip_address_to_python(const ip_address *ip)
cdef bint address_from_python(object value, int family, address *address) except -1
cdef bint is_known_family(int family) noexcept
