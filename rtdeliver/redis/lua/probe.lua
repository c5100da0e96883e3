-- Writes a key, to find out whether Redis takes writes: it may be full, or a replica.
local key = ARGV[1] .. 'probe'
redis.call('hset', key, 'written', 1)
redis.call('pexpire', key, 60000)
return 1
