-- Reads a page of revocations. `common.lua` runs before this.
--
-- ARGV[3]  the name of the store that the caller has read before
-- ARGV[4]  the number of the last entry that it has read there
-- ARGV[5]  how many a page has
--
-- Returns {name of the store, number of the last entry up to which the page reaches, 1 if there are
-- more, texts...}.

local store = redis.call('HMGET', store_key, 'name', 'last')
local after, page = 0, tonumber(ARGV[5])
-- A store that was restored from an old copy may have fewer entries than the caller has read.
if store[1] == ARGV[3] and tonumber(ARGV[4]) <= tonumber(store[2] or 0) then
  after = tonumber(ARGV[4])
end
local names = redis.call(
  'ZRANGEBYSCORE', order_key, '(' .. string.format('%.0f', after), '+inf', 'LIMIT', 0, page + 1
)
local last, more = store[2] or '0', 0
if #names > page then
  table.remove(names)
  last, more = redis.call('ZSCORE', order_key, names[#names]), 1
end
local answer = {store[1], last, more}
for i, name in ipairs(names) do
  answer[3 + i] = redis.call('HGET', texts_key, name)
end
return answer
